import json
import re

from fleetgate.config.declaration import fields
from fleetgate.config.json_schema import json_schema
from fleetgate.config.schema import Settings


def test_it_describes_what_is_written():
    schema = json_schema()
    assert set(schema["properties"]) == {field.key for field in fields(Settings)}
    assert schema["additionalProperties"] is False
    gateway = schema["$defs"]["Gateway"]["properties"]
    assert gateway["drain"]["type"] == "string"
    assert gateway["drain"]["default"] == "5m"
    assert re.match(gateway["drain"]["pattern"], "1h30m")
    assert not re.match(gateway["drain"]["pattern"], "30")
    assert re.match(gateway["body_limit"]["pattern"], "20MB")
    assert {"type": "string"} in gateway["listen"]["anyOf"]
    assert {"type": "string"} in schema["$defs"]["Role"]["properties"]["use"]["items"]["anyOf"]
    assert "(Not yet in effect.)" in gateway["model_in_answers"]["description"]
    assert "as" in schema["$defs"]["StepEntry"]["properties"]


def test_no_mark_of_ours_is_left():
    assert not re.search(r'"(unit|restart|later)"', json.dumps(json_schema()))
