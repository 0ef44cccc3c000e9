"""Adapters of the partners: one file each, all behind the `Partner` protocol."""
