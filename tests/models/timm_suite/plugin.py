"""pytest plugin that turns timm's tests/test_models.py upon our models, and upon no others.

timm's tests choose their models at import by `timm.list_models`, by name or by the module that a family lives in. Here
the first chooses among our models alone, the second takes them all. What is not parametrised over models is left out.
"""
import timm

from timm_mobilenext.shared.names import list_ours

OURS = list_ours()
_list_models = timm.list_models


def _list_our_models(filter='', module='', **kwargs):
    return [name for name in _list_models(filter, module='mobilenext', **kwargs) if name.partition('.')[0] in OURS]


def pytest_configure(config):
    timm.list_models = _list_our_models
    config.addinivalue_line('filterwarnings', r'error:::timm_mobilenext(\..*)?')


def pytest_collection_modifyitems(config, items):
    def over_our_models(item):
        name = getattr(item, 'callspec', None) and item.callspec.params.get('model_name')
        return isinstance(name, str) and name.split('.')[0] in OURS

    config.hook.pytest_deselected(items=[item for item in items if not over_our_models(item)])
    items[:] = [item for item in items if over_our_models(item)]


def pytest_report_header():
    return f'timm {timm.__version__} from {timm.__file__}, models: {" ".join(OURS)}'
