# ViT-S/16 without position encoding, to pretrain on ImageNet; its siblings name the encoding, and
# nothing else.
_base_ = [
    "../_base_/models/classifier_vit.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/deit_300e.py",
    "../_base_/default_runtime/classification.py",
]

model = dict(backbone=dict(position_encodings=[]))
