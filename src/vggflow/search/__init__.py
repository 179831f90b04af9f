"""Settings tried out: what is drawn from where, trials on cached features and on the network, what was best."""
