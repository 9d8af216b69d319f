"""The words of the mini model: what can be drawn, what it may be called, and how people ask for it.

An object is a name of ours, the emoji that draws it, and other words that mean the same in a caption. Everything else (labels, tokenizers, captions,
the model card) is derived from these tables, so a new object is one line here and a new training run."""

OBJECTS = {  # name: (emoji, plural, other words, each "singular/plural")
    "cat": ("🐈", "cats", ["kitten/kittens", "kitty/kitties"]),
    "dog": ("🐕", "dogs", ["puppy/puppies", "hound/hounds"]),
    "fox": ("🦊", "foxes", []),
    "lion": ("🦁", "lions", []),
    "tiger": ("🐅", "tigers", []),
    "bear": ("🐻", "bears", ["brown bear/brown bears"]),
    "panda": ("🐼", "pandas", ["panda bear/panda bears"]),
    "horse": ("🐎", "horses", ["pony/ponies", "stallion/stallions"]),
    "unicorn": ("🦄", "unicorns", []),
    "cow": ("🐄", "cows", []),
    "pig": ("🐖", "pigs", ["piglet/piglets"]),
    "sheep": ("🐑", "sheep", ["lamb/lambs"]),
    "elephant": ("🐘", "elephants", []),
    "rabbit": ("🐇", "rabbits", ["bunny/bunnies", "hare/hares"]),
    "duck": ("🦆", "ducks", ["duckling/ducklings"]),
    "owl": ("🦉", "owls", []),
    "penguin": ("🐧", "penguins", []),
    "frog": ("🐸", "frogs", ["toad/toads"]),
    "turtle": ("🐢", "turtles", ["tortoise/tortoises"]),
    "whale": ("🐳", "whales", []),
    "fish": ("🐟", "fish", []),
    "octopus": ("🐙", "octopuses", ["squid/squids"]),
    "butterfly": ("🦋", "butterflies", []),
    "snail": ("🐌", "snails", []),
    "apple": ("🍎", "apples", []),
    "banana": ("🍌", "bananas", []),
    "strawberry": ("🍓", "strawberries", ["berry/berries"]),
    "pineapple": ("🍍", "pineapples", []),
    "mushroom": ("🍄", "mushrooms", ["toadstool/toadstools"]),
    "pizza": ("🍕", "pizzas", ["slice of pizza/slices of pizza"]),
    "cake": ("🎂", "cakes", ["birthday cake/birthday cakes"]),
    "donut": ("🍩", "donuts", ["doughnut/doughnuts"]),
    "tree": ("🌳", "trees", ["oak/oaks"]),
    "cactus": ("🌵", "cactuses", ["cactus plant/cacti"]),
    "sunflower": ("🌻", "sunflowers", ["flower/flowers"]),
    "star": ("⭐", "stars", []),
    "car": ("🚗", "cars", ["automobile/automobiles", "sedan/sedans"]),
    "bus": ("🚌", "buses", ["coach/coaches"]),
    "tractor": ("🚜", "tractors", []),
    "rocket": ("🚀", "rockets", ["spaceship/spaceships", "space rocket/space rockets"]),
    "sailboat": ("⛵", "sailboats", ["boat/boats", "yacht/yachts", "sailing boat/sailing boats"]),
    "house": ("🏠", "houses", ["home/homes", "cottage/cottages"]),
    "castle": ("🏰", "castles", ["palace/palaces"]),
    "balloon": ("🎈", "balloons", []),
    "gift": ("🎁", "gifts", ["present/presents", "gift box/gift boxes"]),
    "heart": ("❤", "hearts", []),
    "robot": ("🤖", "robots", ["android/androids"]),
    "ghost": ("👻", "ghosts", ["spirit/spirits"]),
}

TINTS = {  # name: (sRGB, other words)
    "red": ((220, 40, 40), ["crimson", "scarlet"]),
    "orange": ((245, 140, 30), []),
    "yellow": ((250, 215, 50), []),
    "green": ((60, 175, 70), []),
    "blue": ((50, 110, 225), []),
    "purple": ((145, 70, 200), ["violet"]),
    "pink": ((245, 130, 180), []),
    "white": ((235, 235, 240), []),
    "black": ((55, 55, 62), []),
    "golden": ((200, 150, 30), ["gold"]),
}

COLOURS = {  # plain backgrounds
    "red": ((214, 60, 58), []),
    "orange": ((244, 152, 60), []),
    "yellow": ((250, 222, 100), []),
    "green": ((98, 180, 98), []),
    "blue": ((82, 138, 226), []),
    "purple": ((150, 98, 200), ["violet"]),
    "pink": ((246, 164, 198), []),
    "brown": ((142, 98, 66), []),
    "black": ((34, 34, 40), []),
    "white": ((246, 246, 246), []),
    "gray": ((150, 152, 158), ["grey"]),
    "turquoise": ((82, 202, 196), ["teal"]),
}

SCENES = {  # name: (phrases that follow the subject, noun phrases for "... with a cat")
    "meadow": (["in a meadow", "on the grass", "on a green meadow", "in a field", "in the grass", "in the park"], ["a meadow", "a green field"]),
    "beach": (["on the beach", "at the beach", "on a beach", "by the sea", "on the sand"], ["a beach", "a sandy beach"]),
    "snow": (["in the snow", "on the snow", "in winter", "in a snowy landscape"], ["a snowy landscape", "a winter scene"]),
    "night": (["at night", "under the stars", "at night under the stars", "in the night", "under the moon", "in the moonlight"], ["a night sky", "a starry night"]),
    "desert": (["in the desert", "in a desert", "on a sand dune"], ["a desert"]),
    "sunset": (["at sunset", "by the sea at sunset", "at dusk", "in front of a sunset"], ["a sunset"]),
    "underwater": (["under water", "underwater", "in the sea", "in the ocean", "under the sea"], ["an underwater scene", "the ocean floor"]),
    "space": (["in space", "in outer space", "among the planets"], ["outer space"]),
    "forest": (["in the forest", "in a forest", "in the woods"], ["a forest", "the woods"]),
    "city": (["in the city", "in a city", "in town", "on the street", "in front of buildings"], ["a city", "a city street"]),
    "mountains": (["in the mountains", "in front of mountains", "on a mountain"], ["mountains", "a mountain landscape"]),
    "rain": (["in the rain", "on a rainy day", "in a storm"], ["a rainy day"]),
    "room": (["in a room", "indoors", "at home", "in the living room", "inside a house"], ["a room", "a living room"]),
    "rainbow": (["under a rainbow", "with a rainbow", "in front of a rainbow"], ["a rainbow"]),
}

SIZES = {"big": ["big", "large", "huge", "giant"], "small": ["small", "tiny", "little"]}
NUMBERS = {2: ["two", "two", "2", "a pair of", "a couple of"], 3: ["three", "three", "3"], 4: ["four", "four", "4"]}
PLACES = {
    "left": ["on the left", "on the left side", "at the left"],
    "right": ["on the right", "on the right side", "at the right"],
    "top left": ["in the top left corner", "in the upper left corner", "at the top left"],
    "top right": ["in the top right corner", "in the upper right corner", "at the top right"],
    "bottom left": ["in the bottom left corner", "in the lower left corner", "at the bottom left"],
    "bottom right": ["in the bottom right corner", "in the lower right corner", "at the bottom right"],
}
RELATIONS = {
    "left": ["to the left of", "left of", "on the left of"],
    "right": ["to the right of", "right of", "on the right of"],
    "above": ["above", "on top of", "over"],
    "below": ["below", "under", "underneath", "beneath"],
    "and": ["and", "and", "next to", "beside", "with", "near", "together with"],
}
OPENINGS = ["a picture of", "a drawing of", "an image of", "a painting of", "an illustration of", "a photo of", "a cartoon of", "draw", "please draw", "show me", "i want", "there is",
            "imagine", "a scene with", "an icon of", "make a picture of"]
CLOSINGS = [", digital art", ", illustration", ", high quality", ", cartoon style", ", please", ", cute", ", simple", ", colourful", ", beautiful"]
FILLERS = ["cute", "lovely", "nice", "happy", "beautiful", "pretty", "funny", "friendly", "single", "lonely", "sweet", "shiny", "cheerful", "simple", "young", "old"]

# Pieces for words that no caption teaches: they stay one token, so that an unknown word disturbs a prompt as little as it can.
COMMON = """the of to in is it that was for on are as with they be at one have this from or had by hot but some what we can out other were all your when up use word how said each she which do
their time if will way about many then them would write like so these her long make thing see him has look more day could go come did my no most who over know than call first people may down side
been now find any new work part take get place made live where after back little only round man year came show every good me give our under name very through just form much great think say help low
line before turn cause same mean differ move right boy old too does tell sentence set three want air well also play small end put read hand port large spell add even land here must big high such
follow act why ask men change went light kind off need house try us again animal point mother world near build self earth father head stand own page should country found answer school grow study
still learn plant cover food sun between state keep eye never last let thought city tree cross farm hard start might story saw far sea draw left late run while press close night real life few north
open seem together next white children begin got walk example ease paper group always music those both mark often letter until mile river car feet care second book carry took science eat room friend
began idea fish mountain stop once base hear horse cut sure watch color face wood main girl woman sitting standing running flying swimming sleeping eating wearing holding riding playing smiling style
photo realistic detailed cinematic dramatic soft bright dark colourful colorful watercolor oil painting sketch cartoon anime pixel art render portrait landscape sky cloud clouds bird flower water fire
king queen wizard dragon magic fantasy forest kingdom summer spring autumn morning evening""".split()

NAMES = sorted(OBJECTS)
BACKGROUNDS = sorted(SCENES) + ["plain " + c for c in sorted(COLOURS)]
PASTEL = "pastel"  # what is drawn when the caption names no background


def everything():
    """Every word a prompt may use, for the model card and the tokenizers."""
    return dict(
        objects={n: [n, p] + [w for pair in more for w in pair.split("/")] for n, (_, p, more) in OBJECTS.items()},
        tints={n: [n] + more for n, (_, more) in TINTS.items()},
        colours={n: [n] + more for n, (_, more) in COLOURS.items()},
        scenes={n: a + b for n, (a, b) in SCENES.items()},
        sizes=SIZES, numbers={str(k): v for k, v in NUMBERS.items()}, places=PLACES, relations=RELATIONS)
