# CPVT-S (https://arxiv.org/abs/2102.10882): the ViT with a class token, and PEG after block 0. Its
# "multi" form, five PEGs: position_encodings=[dict(type="PEG", after=(0, 1, 2, 3, 4))].
_base_ = "./vit-s16-nope_mln_upernet_8xb2-160k_ade20k-512x512.py"

model = dict(backbone=dict(with_cls_token=True, position_encodings=[dict(type="PEG")]))
