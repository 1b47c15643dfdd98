""" Colours of all pictures"""

__all__ = ['FAINT', 'INK', 'RIGHT', 'WRONG']

INK, FAINT, RIGHT, WRONG = '#1f2933', '#a5b1bd', '#0f766e', '#c2410c'
