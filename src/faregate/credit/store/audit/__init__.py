"""The audit chain in the database, its anchors outside, and traces. What a link covers is the domain's."""
