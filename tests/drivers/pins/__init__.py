"""What the hub's driver pins, reads ahead and finds again, against a hub with tiny real models."""
