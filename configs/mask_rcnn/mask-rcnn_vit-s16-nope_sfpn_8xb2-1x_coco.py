# Mask R-CNN, ViT-S/16 without position encoding; its siblings name the encoding, and nothing else.
_base_ = [
    "../_base_/models/mask-rcnn_vit_sfpn.py",
    "../_base_/datasets/coco_instance.py",
    "../_base_/schedules/vit_1x.py",
    "../_base_/default_runtime/detection.py",
]

model = dict(backbone=dict(position_encodings=[]))
