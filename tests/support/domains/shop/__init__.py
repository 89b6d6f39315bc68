"""A pipeline of every shape: two bronze tables, two silver tables from one of them, and each kind of state."""
