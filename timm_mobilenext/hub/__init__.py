""" The Hugging Face Hub: push, pull, and the folders and model cards that it holds"""
