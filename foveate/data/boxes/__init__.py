"""Images with boxes: COCO's, VOC's and YOLO's files, the embedded digits, batches, checks."""

from foveate.data.boxes.classes import open_boxed_classes
from foveate.data.boxes.coco import open_coco
from foveate.data.boxes.digits import open_digit_boxes
from foveate.data.boxes.voc import open_voc
from foveate.data.boxes.yolo import open_yolo

__all__ = ["open_boxed_classes", "open_coco", "open_digit_boxes", "open_voc", "open_yolo"]
