# UperNet, ViT-S/16 without position encoding; its siblings name the encoding, and nothing else.
_base_ = [
    "../_base_/models/upernet_vit_mln.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/vit_160k.py",
    "../_base_/default_runtime/segmentation.py",
]

model = dict(backbone=dict(position_encodings=[]))
