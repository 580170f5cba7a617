"""What is trained: a batch in, named raw losses out."""
