_base_ = "./mask-rcnn_vit-s16-nope_sfpn_8xb2-1x_coco.py"

model = dict(backbone=dict(position_encodings=[dict(type="RoPE")]))
