"""What a network is trained for: head, loss, metrics, pictures."""

from foveate.tasks.task import TASKS, Meter, Scores, Task, create_task, register_task

__all__ = ["TASKS", "Meter", "Scores", "Task", "create_task", "register_task"]
