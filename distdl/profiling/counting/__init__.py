"""Counting of a network's FLOPs and bytes, by tracing its operators on the meta device."""
