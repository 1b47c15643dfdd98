""" What every tool uses: files, images, pictures"""
