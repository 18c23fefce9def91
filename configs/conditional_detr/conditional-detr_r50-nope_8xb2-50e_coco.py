# Conditional DETR without any position in the encoder; its siblings name the encoding.
_base_ = [
    "../_base_/models/conditional-detr_r50.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/conditional-detr_50e.py",
    "../_base_/default_runtime/detection.py",
]

model = dict(encoder=dict(position_encodings=[]))
