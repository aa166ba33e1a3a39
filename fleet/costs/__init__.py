"""What the fleet costs, who causes it, what lies idle, and what each change would save."""
