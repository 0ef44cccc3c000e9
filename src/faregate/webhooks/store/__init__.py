"""The webhooks schema: endpoints with their secrets, and deliveries. SQL stands in `queries.sql`."""
