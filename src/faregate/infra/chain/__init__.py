"""A hash chain over rows that are only ever added: links, the sealer that makes them, and the check of the whole.

Who uses it brings the SQL for its own tables under the names that `store` calls; writers know nothing of it.
"""
