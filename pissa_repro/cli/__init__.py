"""What people run by hand: `pissa <command>`. A command is one file of this folder, found by its name.

The file's docstring is the command's help, its first line the one in `pissa --help`, and the lines in it that start
with four blanks and `pissa` are examples, which a test runs. The function of the file's name is what runs; its
parameters are the arguments. A file is imported only when its command is called.

What the workflow runs is in stages/; neither imports the other.
"""
