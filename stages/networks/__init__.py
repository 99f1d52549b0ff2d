"""All that imports Keras: networks, their training state and their files."""
