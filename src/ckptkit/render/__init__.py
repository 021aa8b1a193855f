"""What commands show: neutral blocks, laid out as plain text, or on a terminal with rich. Colours live here."""
