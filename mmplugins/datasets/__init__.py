"""The embedded benchmark: scenes that tell what a position encoding knows.

`generate.make_benchmark` draws cluttered scenes of textured shapes and writes them twice: in COCO's
form (polygons, crowds, hidden parts, three sizes, empty images) and in ADE20K's (label maps, 0 = no
class). Classes come in six pairs. The two members of a pair share everything but the one thing
that names their family, and a fair coin decides which is drawn:

| family      | classes                        | told apart by                     | needs    |
|-------------|--------------------------------|-----------------------------------|----------|
| appearance  | striped_disk, checked_triangle | shape, texture and colour         | nothing  |
| arrangement | hexagon_above, _below (blue)   | where the diamond of their colour | relative |
|             | hexagon_left, _right (red)     | lies: the two parts swapped, or   | position |
|             | hexagon_near, _far (yellow)    | 64 and 112 pixels apart           |          |
| location    | star_left, star_right          | the half of the frame             | absolute |
|             |                                |                                   | position |
| repetition  | cross_in_pair, cross_in_array  | whether one or more equal crosses | relative |
|             |                                | lie beside it; both groups are in | position |
|             |                                | the scene, 80 pixels apart        |          |

What the tests prove of the drawings:

- both members of an arrangement or location pair cut into the same patches of 16, 8 or 4 pixels,
  in another order, and all crosses of a scene are equal: a bag of patches cannot tell them apart;
- the ground's statistics are the same in every part of the frame;
- the diamond and the other crosses lie at least 24 pixels from the object whose class they decide,
  so that it cannot be read off inside its box, where a RoI head sees what lies where.

What can be reached. An oracle: AP 1, mIoU 100. A position-blind one, which finds every object but
must toss for the member of the pair: AP 1 and IoU 100 on appearance; AP about 0.5 and mIoU at most
a third on each other family. Real models are not quite blind: zero padding, and 3 x 3 convolutions
on the coarse levels of a pyramid or head, see positions without any encoding. Mirroring a picture
changes classes (left, right), so pipelines on this data do not flip; shifting it changes location.

`crops.make_crops` draws single objects of two of the families, to classify.
"""
