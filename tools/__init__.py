"""Tools for those who work on faregate: checks, own lints, clean-up. The product never imports them."""
