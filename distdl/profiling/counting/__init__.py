"""Count the work of a network: its operators are traced on the meta device, each with its rule."""
