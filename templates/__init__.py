"""How regions are computed. A family is a folder; a template is a file in it that ends with `TEMPLATE`."""
