"""How regions are computed: one folder a family, one file a platform, one `TEMPLATE` at its foot."""
