"""What the platform says of itself to a scraper: families and the readings taken for them."""
