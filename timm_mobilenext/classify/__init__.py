""" Image classification: the demo, predictions for photographs, and the check of an image folder"""
