_base_ = "./vit-t16-nope_mln_upernet_1xb2-300it_camvid-360x480.py"

model = dict(backbone=dict(position_encodings=[dict(type="PEG")]))
