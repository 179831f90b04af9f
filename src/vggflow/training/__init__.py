"""How the network learns: phases, features, fitting and checkpoints."""
