""" The command line; a tool is imported when its command runs"""
