"""Outbound webhooks by Standard Webhooks 1.0.0: clients subscribe, contexts announce, a leased sender delivers.

    announce(conn, [Announcement(...)])  ──> webhooks.delivery ──> Sender ──> the client's endpoint

What there is to announce, and that nothing in it identifies a person, is for the context that announces.
"""
