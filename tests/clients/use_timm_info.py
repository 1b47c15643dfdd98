"""Its command line, which finds the networks and describes one."""
import json
import subprocess


def run(*arguments):
    return json.loads(subprocess.run(['timminfo', *arguments, '-f', 'json'], check=True, capture_output=True).stdout)


found, = run('search', 'mobilenext*')
described, = run('info', 'mobilenext_050.cifar10')
print(json.dumps(dict(found=found, described=described)))
