"""How `flops.count` sees a network: operators traced on the meta device, each with its rule."""
