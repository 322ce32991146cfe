"""What another program was told, as a desired file.

In: that program's own configuration, as text. Out: models and remarks (`carried`), and of them a
desired file that is valid (`settle`, `writer`). One module a kind of source; `recognise` tells
which. Nothing here reads a file or looks at a process.
"""
