_base_ = "./mask-rcnn_vit-mini16-nope_sfpn_1xb8-6e_synthetic-160x224.py"

model = dict(backbone=dict(position_encodings=[dict(type="RelativePositionBias")]))
