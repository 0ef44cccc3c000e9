"""Payments: owns the cards, authorises with the scorer or without it, and keeps a payment's whole life."""
