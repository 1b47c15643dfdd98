"""COCO's and Pascal VOC's formats: how they are read, and which faults are reported before a training."""
import json
import shutil

import pytest
import torch
from PIL import Image

from timm_mobilenext.detection.data import BCCD, create_transform, DetectionDataset, load_split

pytestmark = pytest.mark.tools


@pytest.fixture
def voc(tmp_path):
    """A copy of the photographs that come with the package."""
    shutil.copytree(BCCD, tmp_path / 'bccd')
    return tmp_path / 'bccd'


@pytest.fixture
def coco(tmp_path):
    """Four images in COCO's layout, with a crowd, an image without boxes, and ids that are not in order."""
    folder = tmp_path / 'coco'
    (folder / 'annotations').mkdir(parents=True)
    (folder / 'val2017').mkdir()
    for i in range(4):
        Image.new('RGB', (100, 80), (40 * i, 90, 0)).save(folder / 'val2017' / f'{i}.jpg')
    data = dict(
        images=[dict(id=70 - i, file_name=f'{i}.jpg', width=100, height=80) for i in range(4)],
        annotations=[
            dict(id=5, image_id=70, category_id=9, bbox=[10, 20, 30, 40], area=900, iscrowd=0),
            dict(id=6, image_id=70, category_id=3, bbox=[0, 0, 100, 80], area=8000, iscrowd=1),
            dict(id=9, image_id=68, category_id=3, bbox=[50.5, 10, 20, 20], area=400, iscrowd=0),
        ],
        categories=[dict(id=9, name='dog'), dict(id=3, name='cat')],
    )
    return Coco(folder, data)


class Coco:
    split = 'annotations/instances_val2017.json'

    def __init__(self, folder, data):
        self.folder, self.data = folder, data

    def load(self, *args):
        (self.folder / self.split).write_text(json.dumps(self.data))
        return load_split(self.folder, self.split, *args)


def test_coco(coco):
    split = coco.load()
    assert split.class_names == ['cat', 'dog'] and split.category_ids == [3, 9]
    assert [sample.image_id for sample in split.samples] == [70, 69, 68, 67]
    assert [(sample.boxes, sample.labels) for sample in split.samples] == [
        ([[10., 20., 40., 60.]], [2]), ([], []), ([[50.5, 10., 70.5, 30.]], [1]), ([], [])]
    assert any('1 crowds are not trained on' in note for note in split.notes)
    assert any('2 images have no boxes' in note and '1.jpg' in note for note in split.notes)


def test_voc_counts_pixels_from_one(voc):
    split = load_split(voc, 'train')
    assert split.class_names == ['Platelets', 'RBC', 'WBC'] and len(split.samples) == 8
    name = split.samples[0].file.stem
    xml = (voc / 'Annotations' / f'{name}.xml').read_text()
    first = [float(xml.split(f'<{corner}>')[1].split('<')[0]) for corner in ('xmin', 'ymin', 'xmax', 'ymax')]
    assert split.samples[0].boxes[0] == [max(0., first[0] - 1), max(0., first[1] - 1), first[2], first[3]]
    assert split.samples[0].size == (640, 480)


def test_voc_lists_of_several_years(voc, tmp_path):
    for year in ('VOC2007', 'VOC2012'):
        shutil.copytree(voc, tmp_path / 'VOCdevkit' / year)
    split = load_split(tmp_path / 'VOCdevkit', 'VOC2007/train+VOC2012/val')
    assert len(split.samples) == 12 and len({sample.image_id for sample in split.samples}) == 12


def test_lists_that_overlap_are_refused(voc):
    name = (voc / 'ImageSets' / 'Main' / 'train.txt').read_text().split()[0]
    with pytest.raises(ValueError, match=f'train.txt lists {name}, which another list'):
        load_split(voc, 'train+train')


def test_size_in_the_annotation_of_voc_is_held_to(voc):
    file = sorted((voc / 'Annotations').iterdir())[0]
    (voc / 'ImageSets' / 'Main' / 'one.txt').write_text(file.stem)
    file.write_text(file.read_text().replace('<width>640', '<width>64'))
    with pytest.raises(ValueError, match='has 640x480 pixels, not 64x480'):
        load_split(voc, 'one')
    file.write_text(file.read_text().replace('<width>64', '<width>0'))  # as some tools leave it
    assert load_split(voc, 'one').samples[0].size == (640, 480)


def test_photographs_of_voc_may_be_png(voc):
    file = sorted((voc / 'JPEGImages').iterdir())[0]
    (voc / 'ImageSets' / 'Main' / 'one.txt').write_text(file.stem)
    Image.open(file).save(file.with_suffix('.png'))
    file.unlink()
    assert load_split(voc, 'one').samples[0].file.suffix == '.png'


def test_difficult_boxes_are_not_trained_on(voc):
    file = sorted((voc / 'Annotations').iterdir())[0]
    list_file = voc / 'ImageSets' / 'Main' / 'one.txt'
    list_file.write_text(file.stem)
    before = load_split(voc, 'one')
    file.write_text(file.read_text().replace('<difficult>0', '<difficult>1', 1))
    after = load_split(voc, 'one')
    assert len(after.samples[0].boxes) == len(before.samples[0].boxes) - 1
    assert any('1 difficult boxes' in note for note in after.notes)


def test_boxes_of_parts_are_not_the_boxes(voc):
    file = sorted((voc / 'Annotations').iterdir())[0]
    (voc / 'ImageSets' / 'Main' / 'one.txt').write_text(file.stem)
    before = load_split(voc, 'one').samples[0].boxes
    part = '<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>'
    file.write_text(file.read_text().replace('</name>', f'</name>{part}', 1))
    assert load_split(voc, 'one').samples[0].boxes == before


@pytest.mark.parametrize('bbox, boxes, note', [
    ([10, 10, 0, 5], [], '1 boxes without an area are left out'),
    ([10, 10, 5, -5], [], '1 boxes without an area are left out'),
    ([200, 10, 5, 5], [], '1 boxes outside of their image are left out'),
    ([90, 70, 30, 30], [[90., 70., 100., 80.]], '1 boxes that reach out of their image are cut'),
    ([-0.5, 0, 100.9, 80], [[0., 0., 100., 80.]], None),
])
def test_impossible_boxes_are_counted(coco, bbox, boxes, note):
    coco.data['annotations'] = [dict(id=1, image_id=69, category_id=3, bbox=bbox)]
    split = coco.load()
    assert split.samples[1].boxes == boxes
    told = [line for line in split.notes if 'no boxes' not in line]
    assert [line.partition(',')[0] for line in told] == ([note] if note else [])
    assert all('1.jpg' in line for line in told)


def remove_image(data, folder):
    (folder / 'val2017' / '2.jpg').unlink()


def break_image(data, folder):
    (folder / 'val2017' / '2.jpg').write_bytes(b'no image')


def resize_image(data, folder):
    Image.new('RGB', (80, 100)).save(folder / 'val2017' / '2.jpg')


def repeat_image(data, folder):
    data['images'][1]['id'] = 70


def repeat_annotation(data, folder):
    data['annotations'][1]['id'] = 5


def name_no_image(data, folder):
    data['annotations'][0]['image_id'] = 1


def name_no_category(data, folder):
    data['annotations'][0]['category_id'] = 1


def lack_box(data, folder):
    del data['annotations'][0]['bbox']


def lack_file_name(data, folder):
    del data['images'][1]['file_name']


def lack_categories(data, folder):
    del data['categories']


def number_names(data, folder):
    data['images'][0] = 5


def list_ids(data, folder):
    data['annotations'][0]['image_id'] = [70]


def number_file_names(data, folder):
    data['images'][0]['file_name'] = 5


def spell_out_area(data, folder):
    data['annotations'][0]['area'] = 'large'


def lack_all_images(data, folder):
    shutil.rmtree(folder / 'val2017')


@pytest.mark.parametrize('spoil, told', [
    (remove_image, '2.jpg is not there'),
    (break_image, '2.jpg cannot be read as an image'),
    (resize_image, '2.jpg has 80x100 pixels, not 100x80 as its annotation says'),
    (repeat_image, '2 entries of image id 70'),
    (repeat_annotation, '2 entries of annotation id 5'),
    (name_no_image, 'annotation 5 is of image 1, which is not there'),
    (name_no_category, 'annotation 5 is of unknown class 1'),
    (lack_box, 'annotation 5 has no bbox of four numbers'),
    (lack_file_name, 'without a file_name, id 69'),
    (lack_categories, 'is not a JSON file in the format of COCO'),
    (number_names, 'is not a JSON file in the format of COCO'),
    (list_ids, 'is not a JSON file in the format of COCO'),
    (number_file_names, 'a file_name is not text'),
    (spell_out_area, "annotation 5: area is 'large', which is not a number"),
    (lack_all_images, '0.jpg, the first image of'),
])
def test_what_is_wrong_with_coco_is_named(coco, spoil, told):
    spoil(coco.data, coco.folder)
    with pytest.raises(ValueError, match=told) as caught:
        coco.load()
    assert '\n' not in str(caught.value) and str(coco.folder) in str(caught.value)


def test_what_tools_leave_out_of_coco_is_filled_in(coco):
    coco.data['annotations'] = [dict(id=0, image_id=69, category_id=3, bbox=[1, 2, 3, 4], area=None, iscrowd=None)]
    coco.data['categories'][1]['name'] = 7
    split = coco.load()
    assert split.class_names == ['7', 'dog'] and split.samples[1].labels == [1]
    assert split.truth['annotations'][0]['area'] == 12 and split.truth['annotations'][0]['iscrowd'] == 0
    assert split.truth['images'][0]['width'] == 100


def test_numbers_of_coco_that_are_text_are_numbers(coco):
    plain = coco.load()
    for item in (*coco.data['images'], *coco.data['annotations'], *coco.data['categories']):
        for key, value in item.items():
            if key not in ('name', 'file_name'):
                item[key] = [f' {n}' for n in value] if key == 'bbox' else f'{value}'
    coco.data['categories'].append(dict(id='10', name='zebra'))  # after 9, as numbers go
    split = coco.load()
    assert split.class_names == ['cat', 'dog', 'zebra'] and split.category_ids == [3, 9, 10]
    for got, wanted in zip(split.samples, plain.samples, strict=True):
        assert (got.boxes, got.labels, got.size) == (wanted.boxes, wanted.labels, wanted.size)
    assert split.notes == plain.notes  # the crowd is one, and no other box


@pytest.mark.parametrize('part, key, value', [
    ('images', 'width', ''),
    ('images', 'width', '100,0'),
    ('images', 'height', float('nan')),
    ('annotations', 'iscrowd', 'no'),
    ('annotations', 'iscrowd', [0]),
    ('annotations', 'iscrowd', -1),
    ('annotations', 'iscrowd', 2),
    ('annotations', 'area', '1_0'),
    ('annotations', 'area', 'inf'),
    ('annotations', 'difficult', 'Unspecified'),
    ('categories', 'id', '3rd'),
    ('categories', 'id', 3.5),
    ('annotations', 'image_id', 70.5),
])
def test_field_of_coco_that_is_not_a_number_is_named(coco, part, key, value):
    coco.data[part][0][key] = value
    with pytest.raises(ValueError, match=rf'{key}.* is .*(not a number|whole number|not 0 or 1)') as caught:
        coco.load()
    assert repr(value) in str(caught.value) and 'instances_val2017.json' in str(caught.value)


def test_ids_of_images_that_are_text_are_names(coco):
    for image in coco.data['images']:
        image['id'] = f'00{image["id"]}'
    coco.data['annotations'] = [dict(image_id='0069', category_id=3, bbox=[1, 2, 3, 4])]
    assert coco.load().samples[1].boxes == [[1., 2., 4., 6.]]
    coco.data['images'][3]['id'] = 3
    with pytest.raises(ValueError, match='image ids that are numbers and others that are text'):
        coco.load()


@pytest.fixture
def labelled(tmp_path):
    """Writes one image with one box in VOC's folders, whose annotation has a piece that is changed."""
    for name in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (tmp_path / name).mkdir(parents=True)
    Image.new('RGB', (64, 48)).save(tmp_path / 'JPEGImages' / 'a.jpg')
    (tmp_path / 'ImageSets' / 'Main' / 'val.txt').write_text('a\n')

    def write(old='', new='', **options):
        text = ('<annotation><filename>a.jpg</filename><size><width>64</width><height>48</height></size><object>'
                '<name>cell</name><difficult>0</difficult><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>30</xmax>'
                '<ymax>30</ymax></bndbox></object></annotation>')
        assert old in text
        (tmp_path / 'Annotations' / 'a.xml').write_text(text.replace(old, new), **options)
        return tmp_path

    return write


@pytest.mark.parametrize('old, new', [
    ('<width>64<', '<width>64.0<'),
    ('<size><width>64</width><height>48</height></size>', ''),
    ('<xmax>30<', '<xmax> 30.0\n<'),
    ('<difficult>0<', '<difficult>0.0<'),
    ('<difficult>0</difficult>', ''),
])
def test_numbers_of_voc_in_other_words(labelled, old, new):
    split = load_split(labelled(old, new), 'val')
    assert split.samples[0].boxes == [[4., 4., 30., 30.]] and split.notes == []


@pytest.mark.parametrize('old, new, told', [
    ('<width>64<', '<width><', "size/width is '', which is not a number"),
    ('<width>64<', '<width>64,0<', "size/width is '64,0', which is not a number"),
    ('<xmin>5<', '<xmin><', "bndbox/xmin of object 1 is '', which is not a number"),
    ('<ymax>30<', '<ymax>30,5<', "bndbox/ymax of object 1 is '30,5', which is not a number"),
    ('<ymax>30<', '<ymax>nan<', "bndbox/ymax of object 1 is 'nan', which is not a number"),
    ('<xmin>5</xmin>', '', 'bndbox/xmin of object 1 is missing'),
    ('<difficult>0<', '<difficult>Unspecified<', "difficult of object 1 is 'Unspecified', which is not a number"),
    ('<name>cell</name>', '', 'name of object 1 is missing or empty'),
    ('<name>cell<', '<name> <', 'name of object 1 is missing or empty'),
])
def test_field_of_voc_that_is_not_a_number_is_named(labelled, old, new, told):
    with pytest.raises(ValueError, match='a.xml: ' + told):
        load_split(labelled(old, new), 'val')


def rename(folder, name, given):
    """The image and the annotation of `labelled` under another name, which its list has as well."""
    (folder / 'JPEGImages' / 'a.jpg').rename(folder / 'JPEGImages' / given)
    (folder / 'Annotations' / 'a.xml').rename(folder / 'Annotations' / f'{name}.xml')
    (folder / 'ImageSets' / 'Main' / 'val.txt').write_text(f'{name}\n', encoding='utf-8')


@pytest.mark.parametrize('name, given', [
    ('my photo', 'my photo.jpg'),
    ('photo 1', 'photo 1.jpg'),  # not a flag of a list of one class
    ('été', 'été.jpg'),
    ('a.b', 'a.b.png'),
    *[('a', f'a{suffix}') for suffix in ('.jpeg', '.Jpg', '.PNG', '.bmp', '.tif', '.TIFF', '.webp')],
])
def test_images_of_voc_by_their_names(labelled, name, given):
    folder = labelled()
    rename(folder, name, given)
    Image.new('RGB', (64, 48)).save(folder / 'JPEGImages' / given)
    split = load_split(folder, 'val')
    assert [sample.file.name for sample in split.samples] == [given] and split.samples[0].image_id == name


@pytest.mark.parametrize('filename', ['b.png', '/home/bob/images/b.png', 'C:\\images\\b.png'])
def test_image_of_voc_that_only_its_annotation_names(labelled, filename):
    folder = labelled('>a.jpg<', f'>{filename}<')
    file = folder / 'JPEGImages' / 'b.png'
    Image.new('RGB', (64, 48)).save(file)
    assert load_split(folder, 'val').samples[0].file.name == 'a.jpg'  # a name that was not kept up
    (folder / 'JPEGImages' / 'a.jpg').unlink()
    assert load_split(folder, 'val').samples[0].file == file
    shutil.copy(folder / 'Annotations' / 'a.xml', folder / 'Annotations' / 'b.xml')
    (folder / 'ImageSets' / 'Main' / 'val.txt').write_text('a\nb\n')
    with pytest.raises(ValueError, match=r'b.xml and a.xml are both of .*b.png'):
        load_split(folder, 'val')


@pytest.mark.parametrize('text', [b'\xef\xbb\xbfa\r\n', 'a\r\n'.encode('utf-16'), b'a -1\n', b'a  1\n', b'\n a 0 \n'])
def test_lists_of_voc_as_they_are_found(labelled, text):
    folder = labelled()
    (folder / 'ImageSets' / 'Main' / 'val.txt').write_bytes(text)
    assert load_split(folder, 'val').samples[0].image_id == 'a'


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_json_with_a_byte_order_mark(coco, encoding):
    file = coco.folder / coco.split
    file.write_text(json.dumps(coco.data), encoding=encoding)
    assert len(load_split(coco.folder, coco.split).samples) == 4


@pytest.mark.parametrize('place, names', [
    ('val2017', '{}'),
    ('images/val2017', '{}'),
    ('images/val2017', 'images/val2017/{}'),
    ('images/val2017', 'val2017/{}'),
    ('images', '{}'),
    ('annotations/images', '{}'),
    ('annotations', './{}'),
    ('images', '../images/{}'),
    ('images', '/home/bob/data/images/{}'),
    ('images/set', '/home/bob/data/images/set/{}'),
    ('images', 'C:\\Users\\bob\\images\\{}'),
    ('images/set', 'set\\{}'),
])
def test_images_of_coco_by_their_names(coco, place, names):
    folder = coco.folder / place
    (coco.folder / 'val2017').rename(coco.folder / 'moved')
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(coco.folder / 'moved', folder, dirs_exist_ok=True)
    for image in coco.data['images']:
        image['file_name'] = names.format(image['file_name'])
    assert [sample.file.resolve() for sample in coco.load().samples] == [folder / f'{i}.jpg' for i in range(4)]


def test_absolute_names_of_coco(coco):
    for image in coco.data['images']:
        image['file_name'] = str(coco.folder / 'val2017' / image['file_name'])
    assert [sample.file.name for sample in coco.load().samples] == ['0.jpg', '1.jpg', '2.jpg', '3.jpg']


@pytest.mark.parametrize('name', ['animals', 'dog'])
def test_parent_of_all_classes_is_left_out(coco, name):
    """Exports of Roboflow have one, which may have the name of a class."""
    for category in coco.data['categories']:
        category['supercategory'] = name
    coco.data['categories'].insert(0, dict(id=0, name=name, supercategory='none'))
    split = coco.load()
    assert split.class_names == ['cat', 'dog'] and split.samples[0].labels == [2]
    assert split.notes[0] == f'1 categories without boxes, parents of others, are left out: {name}'
    coco.data['annotations'].append(dict(image_id=69, category_id=0, bbox=[1, 2, 3, 4]))
    if name == 'animals':
        assert coco.load().class_names == ['animals', 'cat', 'dog']
    else:
        with pytest.raises(ValueError, match='two categories with the same name'):
            coco.load()


def test_class_without_a_box_is_not_missed(coco):
    coco.data['categories'].append(dict(id=1, name='unused'))
    assert coco.load(['cat', 'dog']).samples[0].labels == [2]


def test_what_is_wrong_with_voc_is_named(voc):
    names = (voc / 'ImageSets' / 'Main' / 'train.txt').read_text().split()
    (voc / 'Annotations' / f'{names[0]}.xml').write_text('<annotation><object><name>RBC</name></object>')
    (voc / 'JPEGImages' / f'{names[1]}.jpg').unlink()
    with pytest.raises(ValueError) as caught:
        load_split(voc, 'train')
    assert f'{names[0]}.xml cannot be read' in str(caught.value)
    assert f'{names[1]}.jpg is not there' in str(caught.value)
    with pytest.raises(ValueError, match='test.txt is not there'):
        load_split(voc, 'test')
    (voc / 'ImageSets' / 'Main' / 'twice.txt').write_text(f'{names[2]}\n{names[2]}\n')
    with pytest.raises(ValueError, match=f'lists {names[2]} 2 times'):
        load_split(voc, 'twice')
    with pytest.raises(ValueError, match=r'unknown class WBC'):
        load_split(voc, 'val', ['Platelets', 'RBC'])
    with pytest.raises(ValueError, match='is not a folder'):
        load_split(voc / 'nothing', 'train')


def test_classes_that_a_split_lacks_keep_their_labels(coco):
    split = coco.load(['bird', 'cat', 'dog'])
    assert split.samples[0].labels == [3] and split.samples[2].labels == [2]
    with pytest.raises(ValueError, match='unknown class cat'):
        coco.load(['dog'])


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'I;16', 'P', 'CMYK'])
def test_images_of_any_mode(coco, mode):
    file = coco.folder / 'val2017' / ('odd.jpg' if mode == 'CMYK' else 'odd.png')
    if mode == 'I;16':
        Image.fromarray((torch.arange(8000).reshape(80, 100) * 8).numpy().astype('uint16')).save(file)
    else:
        Image.new('L', (100, 80), 200).convert(mode).save(file)
    coco.data['images'] = [dict(id=1, file_name=file.name)]
    coco.data['annotations'] = [dict(id=1, image_id=1, category_id=3, bbox=[1, 1, 50, 50])]
    image, target = DetectionDataset(coco.load())[0]
    assert image.shape == (3, 80, 100) and image.dtype == torch.uint8 and image.max() > 150
    assert target['boxes'].tolist() == [[1., 1., 51., 51.]] and target['labels'].tolist() == [1]


@pytest.mark.parametrize('annotated', [(100, 80), (80, 100), None])
def test_turned_photographs(coco, annotated):
    """Boxes are of the image as its annotation has it: unturned, or as the camera was held."""
    image = Image.new('RGB', (100, 80))
    image.paste((255, 255, 255), (0, 0, 10, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise
    image.save(coco.folder / 'val2017' / '0.jpg', exif=exif, quality=95)
    coco.data['images'] = [dict(id=1, file_name='0.jpg')]
    coco.data['annotations'] = []
    if annotated:
        coco.data['images'][0].update(width=annotated[0], height=annotated[1])
    image, _ = DetectionDataset(coco.load())[0]
    if annotated == (100, 80):
        assert image.shape == (3, 80, 100) and image[0, :8, :8].min() > 200
    else:
        assert image.shape == (3, 100, 80) and image[0, :8, -8:].min() > 200


def test_truncated_photograph_is_named_when_it_is_read(voc):
    split = load_split(voc, 'train')
    file = split.samples[0].file
    file.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(ValueError, match=f'{file.name} cannot be read'):
        DetectionDataset(load_split(voc, 'train'))[0]


def test_augmentation_keeps_boxes_around_their_objects(tmp_path, coco):
    """A white square stays in its box, however the image is cut, moved and flipped."""
    image = Image.new('RGB', (100, 80))
    image.paste((255, 255, 255), (20, 30, 60, 70))
    image.save(coco.folder / 'val2017' / '0.png')
    coco.data['images'] = [dict(id=1, file_name='0.png')]
    coco.data['annotations'] = [dict(id=1, image_id=1, category_id=3, bbox=[20, 30, 40, 40])]
    for cache_size in (None, 64):
        dataset = DetectionDataset(coco.load(), create_transform(64, (0., 0., 0.), True), cache_size)
        places = set()
        for _ in range(40):
            image, target = dataset[0]
            assert image.shape == (3, 64, 64) and image.dtype == torch.float32 and 0 <= image.min() <= image.max() <= 1
            for box in target['boxes'].round().long().tolist():
                x1, y1, x2, y2 = box
                inside = image[:, y1 + 1:y2 - 1, x1 + 1:x2 - 1]
                assert inside.numel() == 0 or inside.mean() > 0.3
                outside = image.clone()
                outside[:, max(0, y1 - 2):y2 + 2, max(0, x1 - 2):x2 + 2] = 0
                assert outside.max() < 0.35  # but for what brightness adds to black
                places.add(tuple(box))
        assert len(places) > 15
    image = Image.new('RGB', (100, 80))
    image.paste((255, 255, 255), (20, 30, 40, 70))
    image.paste((120, 120, 120), (40, 30, 60, 70))
    image.save(coco.folder / 'val2017' / '0.png')
    dataset = DetectionDataset(coco.load(), create_transform(64, (0., 0., 0.), True))
    brighter_on_the_left = set()
    for _ in range(20):
        image, target = dataset[0]
        for x1, y1, x2, y2 in target['boxes'].round().long().tolist():
            left, right = image[:, y1:y2, x1:x2].chunk(2, dim=2) if x2 - x1 > 9 and y2 > y1 else (image, image)
            if abs(left.mean() - right.mean()) > 0.1:
                brighter_on_the_left.add(bool(left.mean() > right.mean()))
    assert brighter_on_the_left == {True, False}
    image = Image.new('RGB', (100, 80))
    image.save(coco.folder / 'val2017' / '0.png')
    plain = DetectionDataset(coco.load(), create_transform(64, (0., 0., 0.), True, no_aug=True))
    assert all(torch.allclose(plain[0][1]['boxes'], torch.tensor([[12.8, 24., 38.4, 56.]])) for _ in range(3))
