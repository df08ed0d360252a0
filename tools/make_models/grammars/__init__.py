"""Grammars that generate all training text."""
