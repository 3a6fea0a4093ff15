"""Pictures that are no brain MRI, and what the guard says of them."""
