"""A fourth task for the tests: how bright is an image? Its metric is better when it is lower; its data has no labels.

Outside this folder it takes one line: its entry in ``metaformer.tasks.task.TASKS``. docs/extending.md walks through it.
"""
