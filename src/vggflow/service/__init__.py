"""A model that answers over HTTP: requests in, batches through the network, answers out."""
