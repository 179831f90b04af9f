"""What the network is: VGG16, its heads, its weights and its files."""
