""" What every tool uses: errors, names, paths, files, images, counts, one console and one style"""
