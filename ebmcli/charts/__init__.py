"""Charts as pictures, drawn with Pillow: traces of chains, diagrams of posteriors."""
