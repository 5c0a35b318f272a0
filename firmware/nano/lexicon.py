# SPDX-License-Identifier: MIT
"""Words of the story grammar: plain data, no logic.

Every word the model will ever see comes from this file and `plots.py`.
"""

GIRLS = ("Mia Anna Rosa Nora Ella Ivy Zoe Clara Ruby Maya Lena Tess Emma Hana "
         "June Ada").split()
BOYS = ("Tom Ben Max Leo Sam Finn Otto Theo Hugo Nico Paul Jack Ravi Emil "
        "Oscar Milo").split()
SHE_ANIMALS = "Dot Hazel Clover Pepper Willow Poppy Nutmeg Fern".split()
HE_ANIMALS = "Pip Biscuit Moss Bobbin Acorn Toffee Bean Basil".split()

#: Invented names (two or three of these pieces) teach the model to copy any name.
ONSETS = "b d f g h j k l m n p r s t v w z br dr fl gr kl pr st tr sh th".split()
VOWELS = "a e i o u ai ea ie oo".split()
ENDINGS = "a e i o n l r s t m na la ra ck x y".split()

ANIMALS = ("fox rabbit bear mouse cat dog duck frog hedgehog squirrel turtle "
           "owl").split()
SIZES = "little small young tiny".split()
TRAITS = ("kind brave curious gentle clever cheerful shy quiet funny "
          "patient").split()

#: Things a child can hold; all singular, all countable.
OBJECTS = ("kite ball key lantern drum hat scarf book boat bell cup basket "
           "ribbon whistle button coin map feather shell umbrella bucket flute "
           "box blanket teapot spoon brush balloon marble ring wagon pencil "
           "clock puppet rope mirror necklace candle stone crown").split()

COLOURS = ("red blue green yellow orange purple pink white black brown silver "
           "golden").split()

#: Objects that would sound odd in a plot (nobody makes a stone).
UNFIT = {"gift": "stone coin shell feather marble mirror".split(),
         "broken": "stone feather coin rope ribbon blanket scarf".split()}

#: (preposition, noun phrase): "in" + "the garden".
PLACES = (
    ("in", "the garden"), ("in", "the forest"), ("by", "the river"),
    ("on", "the hill"), ("at", "the beach"), ("in", "the park"),
    ("under", "the old bridge"), ("in", "the barn"), ("near", "the mill"),
    ("at", "the market"), ("in", "the meadow"), ("by", "the lake"),
    ("in", "the kitchen"), ("in", "the attic"), ("under", "the apple tree"),
    ("behind", "the school"), ("in", "the library"), ("at", "the farm"),
    ("on", "the pier"), ("in", "the orchard"), ("by", "the well"),
    ("behind", "the bakery"), ("in", "the cave"), ("at", "the station"),
    ("in", "the tower"), ("by", "the pond"), ("in", "the valley"),
    ("on", "the island"), ("under", "the oak tree"),
    ("in", "the village square"),
)

#: Places where a seed can grow or a hurt animal can hide.
OUTDOORS = ("garden forest river hill beach park meadow lake farm orchard pond "
            "valley island bridge apple oak mill").split()

FOODS = ("cake", "soup", "bread", "cookies", "pancakes", "nuts", "cheese",
         "pears", "plums", "berries", "apple pie", "porridge", "carrots",
         "cherries", "honey")

#: (infinitive, gerund)
HOBBIES = (
    ("sing songs", "singing songs"), ("draw pictures", "drawing pictures"),
    ("climb trees", "climbing trees"), ("read books", "reading books"),
    ("count the stars", "counting the stars"), ("bake bread", "baking bread"),
    ("dance in the rain", "dancing in the rain"),
    ("collect stones", "collecting stones"),
    ("tell jokes", "telling jokes"), ("watch the clouds", "watching the clouds"),
    ("play hide and seek", "playing hide and seek"),
    ("jump over puddles", "jumping over puddles"),
    ("build towers", "building towers"), ("swim", "swimming"),
)

#: (weather word, sentences that show it)
WEATHER = (
    ("sunny", ("It was a sunny {time}.", "One sunny {time}, the birds were singing.",
               "The {time} was sunny, and the sky was clear.")),
    ("windy", ("It was a windy {time}.", "One windy {time}, the leaves danced in the air.",
               "The {time} was windy, and the trees swayed.")),
    ("rainy", ("It was a rainy {time}.", "One rainy {time}, drops tapped on the window.",
               "The {time} was rainy, and there were puddles everywhere.")),
    ("snowy", ("It was a snowy {time}.", "One snowy {time}, the whole world looked white.",
               "The {time} was snowy, and the roofs wore soft caps.")),
    ("foggy", ("It was a foggy {time}.", "One foggy {time}, nobody could see very far.",
               "The {time} was foggy, and everything looked like a dream.")),
    ("cloudy", ("It was a cloudy {time}.", "One cloudy {time}, the sky looked like wool.",
                "The {time} was cloudy, and the air was still.")),
    ("warm", ("It was a warm {time}.", "One warm {time}, the bees hummed in the flowers.",
              "The {time} was warm, and the grass smelled sweet.")),
    ("cold", ("It was a cold {time}.", "One cold {time}, everyone wore thick coats.",
              "The {time} was cold, and the puddles were frozen.")),
)
TIMES = "morning afternoon evening day".split()

SAD = "sad worried upset unhappy gloomy".split()
HAPPY = "happy glad proud cheerful joyful grateful".split()
SCARED = "scared nervous afraid".split()
CURIOUS = "curious surprised excited".split()

#: People who may own a lost thing.
OWNERS = ("baker farmer miller teacher sailor gardener painter shepherd tailor "
          "doctor king queen").split()
FAMILY = "mother father grandmother grandfather aunt uncle".split()
MENDERS = ("glue", "string", "tape", "wire", "wax", "thread")
PETS = "bird kitten puppy lamb duckling foal".split()
HURTS = ("had a hurt leg", "was caught in a bush", "had lost its way",
         "was very cold", "was very hungry")
FEARS = ("the dark", "thunder", "deep water", "loud noises", "high places",
         "big dogs", "shadows")
FLOWERS = "rose tulip daisy lily sunflower poppy".split()

#: Single questions with fixed answers: the model's small general knowledge.
USES = {
    "kite": "you fly it in the wind", "ball": "you throw it and catch it",
    "key": "you open a door with it", "lantern": "you light the dark with it",
    "drum": "you play music on it", "hat": "you wear it on your head",
    "scarf": "you wear it around your neck", "book": "you read it",
    "boat": "you sail on the water in it", "bell": "you ring it",
    "cup": "you drink from it", "basket": "you carry food in it",
    "whistle": "you blow it", "coin": "you buy things with it",
    "map": "you find the way with it", "umbrella": "you stay dry under it",
    "bucket": "you carry water in it", "flute": "you play music on it",
    "box": "you keep things in it", "blanket": "you stay warm under it",
    "teapot": "you make tea in it", "spoon": "you eat soup with it",
    "brush": "you paint with it", "wagon": "you pull things in it",
    "pencil": "you write with it", "clock": "you tell the time with it",
    "rope": "you tie things with it", "mirror": "you see yourself in it",
    "candle": "you light a room with it", "crown": "a king wears it",
}
SOUNDS = {"dog": "woof", "cat": "meow", "duck": "quack", "cow": "moo",
          "sheep": "baa", "owl": "hoot", "frog": "croak", "bee": "buzz",
          "lion": "roar", "mouse": "squeak", "horse": "neigh", "bird": "tweet"}
HOMES = {"bird": "in a nest", "fox": "in a den", "bee": "in a hive",
         "rabbit": "in a burrow", "fish": "in the water", "frog": "in a pond",
         "bear": "in a cave", "squirrel": "in a tree", "owl": "in a tree",
         "cow": "on a farm", "mouse": "in a small hole"}
THING_COLOURS = {"the sky": "blue", "grass": "green", "snow": "white",
                 "the sun": "yellow", "a strawberry": "red",
                 "a carrot": "orange", "the night": "black", "a plum": "purple",
                 "milk": "white", "a leaf": "green", "a cherry": "red",
                 "chocolate": "brown", "a crown": "golden", "the moon": "silver"}
ABOUT = (
    ("Who are you?", "a little storyteller made of numbers"),
    ("What are you?", "a very small language model"),
    ("What can you do?", "I can tell little stories and answer questions about them"),
    ("Where do you live?", "inside this small machine"),
    ("How are you?", "I am fine, thank you"),
    ("What is your name?", "my name is Nano"),
    ("What do you like?", "I like stories with a happy end"),
    ("How big are you?", "small enough to fit in your pocket"),
)
