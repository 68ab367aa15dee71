"""What is trained once per base model: hypernetworks, and starting weights of strategies."""
