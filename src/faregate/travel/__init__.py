"""Travel: flights and hotels paid with points, at partners that speak different protocols and fail differently."""
