"""The credit application risk engine: who gets a card. Others enter through `api` and hear of it through events."""
