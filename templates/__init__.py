"""How regions are computed. A family is a folder. A template is a file in it that defines `TEMPLATE`."""
