"""What leaves the machine: models, Spaces and data sets on the Hub."""
